"""What a network makes of images as a whole: features, which images are near, an embedding, the first filters."""
