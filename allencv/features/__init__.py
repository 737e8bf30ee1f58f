"""Keep what a frozen encoder says about images, and use it."""
