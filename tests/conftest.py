"""For all tests: small networks gain nothing from threads, and lose much beside other work."""

import torch

torch.set_num_threads(1)
