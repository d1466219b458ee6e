"""Every family of networks against PyTorch, in float64; needs torch and torchvision."""
