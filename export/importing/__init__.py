"""Networks that other people made, repaired until they can be embedded with: one picture in, one embedding out."""
