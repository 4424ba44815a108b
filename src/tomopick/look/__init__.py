"""Pictures, pages, and what is wrong."""
