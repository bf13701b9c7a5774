"""What `cvji check` looks at: each check is one function from a Site to results."""
