"""A crew: workers that live elsewhere, and how a run talks with them."""
