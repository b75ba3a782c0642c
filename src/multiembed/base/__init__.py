"""What everybody stands on: errors, validation, files, threads, memory, devices."""
