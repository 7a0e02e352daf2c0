"""Who is let in: tokens and the keys that sign them."""
