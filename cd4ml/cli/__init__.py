"""Arguments in, tables and exit codes out; one short function a verb."""
