"""What a queue's topics say, materialised in an embedded SQLite: a copy that can always be made again."""
