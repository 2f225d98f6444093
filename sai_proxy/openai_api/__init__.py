"""What OpenAI's clients speak: wire types in, bytes out. Pure, and nothing about SAI."""
