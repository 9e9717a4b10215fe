"""Landing: how records come to the remote and into the index, and whether what the index holds is to be believed."""
