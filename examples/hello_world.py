"""Sends 'Hello World!' and gets it back."""

import os

import pika

connection = pika.BlockingConnection(
    pika.ConnectionParameters(host=os.environ.get('AMQP_HOST', 'localhost'),
                              port=int(os.environ.get('AMQP_PORT', 5672))))
channel = connection.channel()

channel.queue_declare(queue='hello_world')

channel.basic_publish(exchange='', routing_key='hello_world', body='Hello World!')
print(" [x] Sent 'Hello World!'")

method, properties, body = channel.basic_get(queue='hello_world', auto_ack=True)
print(f" [x] Received {body.decode()!r}")

connection.close()
