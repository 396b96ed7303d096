"""Parts of the combined network as somebody outside the kit writes them: one file each, nothing of the kit is edited."""
