"""Networks, their training, and base classes of methods that train them."""
