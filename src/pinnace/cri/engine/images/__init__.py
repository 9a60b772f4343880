"""Images: references, content, archives, registries, unpacked layers and the containers' writable layers above them."""
