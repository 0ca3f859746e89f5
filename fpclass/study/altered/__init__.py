"""What is trained, judged on altered copies of images that it never saw: robustness and shortcut tests."""
