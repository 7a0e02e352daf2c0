"""The management API (`@connections`): posts to connections, and closes them."""
