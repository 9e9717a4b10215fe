"""Starting: make a repository a project, with a first configuration proposed from a table of one's own."""
