"""What SAI speaks. `upstream` says what a handler may expect; each endpoint of SAI is a module."""
