"""What a model, its fit and its results look like: pictures, and the HTML report."""
