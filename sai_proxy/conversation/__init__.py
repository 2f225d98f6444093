"""What is asked and what comes back, free of any wire format: pure values and rules, no I/O."""
