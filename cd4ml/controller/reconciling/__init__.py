"""Reconciling: observe what is desired and what is recorded, plan, apply, until the plan is empty."""
