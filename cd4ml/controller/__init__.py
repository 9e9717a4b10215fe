"""The verbs: each observes, asks the core to decide, and does what was decided."""
