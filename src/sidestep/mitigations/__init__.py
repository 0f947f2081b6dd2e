"""Changes to prompt embedding, first noise or attention, one paper per file. None yet."""
