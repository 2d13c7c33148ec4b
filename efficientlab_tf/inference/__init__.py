"""A person's own pictures: found, segmented, and shown."""
