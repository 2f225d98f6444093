"""Settings, and how the environment becomes them. Nothing else reads the environment."""
