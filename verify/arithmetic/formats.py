from dataclasses import dataclass
import numpy as np, ml_dtypes
@dataclass(frozen=True)
class Format:
    name: str
    dtype: np.dtype
    precision: int
    emin: int
    emax: int
    @property
    def unit_roundoff(self): return 2.0**-self.precision
    @property
    def smallest_subnormal(self): return 2.0**(self.emin-self.precision+1)
    @property
    def smallest_normal(self): return 2.0**self.emin
    @property
    def largest(self): return (2-2.0**(1-self.precision))*2.0**self.emax
FLOAT16=Format("float16",np.dtype(np.float16),11,-14,15)
BFLOAT16=Format("bfloat16",np.dtype(ml_dtypes.bfloat16),8,-126,127)
FLOAT32=Format("float32",np.dtype(np.float32),24,-126,127)
FLOAT64=Format("float64",np.dtype(np.float64),53,-1022,1023)
FORMATS={f.name:f for f in (FLOAT16,BFLOAT16,FLOAT32,FLOAT64)}
