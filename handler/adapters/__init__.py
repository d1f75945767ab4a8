"""One module for each thing outside: each turns a vendor's terms and errors into the ports'."""
