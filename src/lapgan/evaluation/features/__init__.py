"""Features of images: pretrained nets, and the features that they give."""
