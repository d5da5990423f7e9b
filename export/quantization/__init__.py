"""int8 that keeps the faces: ranges, weights, biases, what stays in float, and what that costs."""
