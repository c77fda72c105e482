"""Containers of the pocket platform: built-in ones, and nginx with php-fpm."""
