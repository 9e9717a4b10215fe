"""Care: is all there and as it was written? Put back what is not, and let go of what nobody needs any more."""
