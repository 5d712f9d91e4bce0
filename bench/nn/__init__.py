"""Networks, how they train, and bases of the methods that train them."""
