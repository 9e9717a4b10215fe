"""CI: the parts of a run as jobs of their own, the bundles that pass between them, and what may be done for a fork."""
