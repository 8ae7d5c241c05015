"""What starts and serves Keyturn's processes: certificates, key servers, locks. Not part of any installed package."""
