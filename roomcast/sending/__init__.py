"""How one send gets out: to whom, as which jobs, and what becomes of each post."""
