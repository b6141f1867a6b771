"""Where bytes are and how they come here; knows nothing of FUSE, click or the terminal."""
