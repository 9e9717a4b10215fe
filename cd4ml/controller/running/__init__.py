"""Running: execute and judge what a commit asks for, stage by stage, in the warm process that makes it quick."""
