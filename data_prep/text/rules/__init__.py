"""Cleaning rules by name (C4, Gopher, language, personal data …), each counted. Off until a recipe names them."""
