"""From x to what a network sees (x′) and must predict (x″): one file each, pure functions of rows and keyed draws."""
