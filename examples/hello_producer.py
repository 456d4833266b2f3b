"""Sends the numbers 0 to 9 to the queue `hello`."""

import os

import pika

connection = pika.BlockingConnection(
    pika.ConnectionParameters(host=os.environ.get('AMQP_HOST', 'localhost'),
                              port=int(os.environ.get('AMQP_PORT', 5672))))
channel = connection.channel()

channel.queue_declare(queue='hello')

for number in range(10):
    channel.basic_publish(exchange='', routing_key='hello', body=str(number))
    print(f" [x] Sent {number}")

connection.close()
