"""Models written once for every backend, and how a name and a size make one."""

from uoro.models.answers import AnswerModel as AnswerModel
from uoro.models.diagonal import ELSTM as ELSTM
from uoro.models.diagonal import LRU as LRU
from uoro.models.diagonal import RTU as RTU
from uoro.models.diagonal import MinGRU as MinGRU
from uoro.models.linear import InfluenceBalancing as InfluenceBalancing
from uoro.models.model import Model as Model
from uoro.models.recurrent import CELLS as CELLS
from uoro.models.recurrent import GRU as GRU
from uoro.models.recurrent import LSTM as LSTM
from uoro.models.recurrent import SymbolModel as SymbolModel
from uoro.models.recurrent import Tanh as Tanh
from uoro.models.series import SeriesModel as SeriesModel
