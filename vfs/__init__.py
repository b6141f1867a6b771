"""What a revision looks like as a file system, and how the kernel is told."""
