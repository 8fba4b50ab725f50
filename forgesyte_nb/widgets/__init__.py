"""What people see in the notebook: widgets, each one line to use, and the way from the browser to the kernel."""
