"""History: ask the index what was run, compare it, trace it, fetch what it left, and run it again."""
