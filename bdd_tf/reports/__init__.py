"""What the report is made of: the paper's printed values, stored results, and the tables and pictures made from them."""
