"""Puts a medical record into a durable queue so that it outlives a restart of the broker.

Needs the virtual host /rabbitmq: start the broker with `leveret --vhost /rabbitmq`."""

import json
import os

import pika

credentials = pika.PlainCredentials('guest', 'guest')
parameters = pika.ConnectionParameters(os.environ.get('AMQP_HOST', 'localhost'),
                                       int(os.environ.get('AMQP_PORT', 5672)),
                                       '/rabbitmq',
                                       credentials)

connection = pika.BlockingConnection(parameters)
channel = connection.channel()

# The queue is durable: it is there again after a restart.
channel.queue_declare(queue='medical_data', durable=True)

# With confirms, basic_publish returns once the broker has the message on stable storage.
channel.confirm_delivery()

medical_data = {
    'patient_id': 12345,
    'heart_rate': 72,
    'blood_pressure': '120/80',
    'temperature': 36.6,
}

channel.basic_publish(exchange='',
                      routing_key='medical_data',
                      body=json.dumps(medical_data),
                      properties=pika.BasicProperties(
                          delivery_mode=2,  # persistent: the message survives as well
                          content_type='application/json',
                      ))
print(" [x] Sent medical data")
connection.close()
