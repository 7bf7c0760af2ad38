"""Rules for cleaning text (C4, Gopher, language, personal data …). A rule is off unless a recipe names it."""
