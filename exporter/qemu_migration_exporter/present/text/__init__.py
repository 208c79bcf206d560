"""What a replay says of the migrations it read, for people and for programs."""
