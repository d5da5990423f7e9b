"""Which loss? One network, one set of people and one budget, trained under each of them and measured on others."""
