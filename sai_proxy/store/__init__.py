"""What is kept between requests, and for whom: answers that a client may refer to later. Nothing of how clients ask
for them, and nothing that an answer needs: a store that is down costs what it holds."""
