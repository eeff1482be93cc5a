"""Networks of the papers, as functional Keras models."""

from tfmeta.models.conv4 import conv4 as conv4
from tfmeta.models.embedding_head import embedding_head as embedding_head
from tfmeta.models.mlp import mlp as mlp
from tfmeta.models.policies import categorical_policy as categorical_policy
from tfmeta.models.policies import gaussian_policy as gaussian_policy
from tfmeta.models.resnet12 import resnet12 as resnet12
