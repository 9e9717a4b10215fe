"""Desired state: what commits and heads ask for, by their pins, their composed ``conf/`` and the templates."""
