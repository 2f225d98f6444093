"""Several processes on one port: a parent that starts them and sees to them, and what they share through it."""
